"""From raw click logs to prepared data sets."""
