"""How the page looks and what it does."""

STYLE = """
"""
SCRIPT = """
"""
