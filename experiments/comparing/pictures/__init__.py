"""Pictures of a comparison: which there are, what they say, how they become files.

Each is described in words and figures by functions that need no matplotlib; what draws
it does. ``rendering`` makes SVG or PNG of it.
"""
