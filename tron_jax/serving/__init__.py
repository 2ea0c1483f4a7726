"""A trained model as one function of sessions, to be exported and served."""
