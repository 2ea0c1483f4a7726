"""A raw click log as a stream of clicks.

In come files as their owners wrote them: CSV, JSON lines or Parquet with any columns,
and the original files of Diginetica, Yoochoose and OTTO. Out come their clicks in raw
order, checked and typed, as ``ClickBatch``es small enough for memory to stay bounded.
``formats`` says which reader opens which file; every reader is a ``ClickLog``.

What becomes of the clicks is the business of ``pipeline``; what a person types and
sees, that of the programs.
"""
