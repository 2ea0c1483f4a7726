"""Runs side by side: where their figures come from, what differs, how it is shown.

results -> settings -> differences, slices, curves -> ``comparison.Comparison`` -> text,
pictures, page.
"""
