"""The paper's preparation: from a raw log's clicks to a written set.

In come batches of clicks in raw order and a recipe, out goes a prepared set and what
each step left of the log. The log is cut into parts by session, in memory or on disk,
and the steps pass over them one by one, so that memory does not grow with the log.

How a raw file is read is not known here, nor which recipe is whose.
"""
