"""How the figures of a run reach people: metrics.jsonl, printed tables, pictures.

What comes in are plain records of figures; how they are computed is no business of this
package.
"""
