"""Runs side by side: where their figures come from, what differs, how it is shown.

gathering -> runs -> settings, test_parts -> figures, ranks, differences, slices ->
building -> ``comparison.Comparison`` -> text, pictures, page.
"""
