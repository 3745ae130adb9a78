"""The programs: each ``main`` parses words, then imports what it needs, which takes seconds.

``nl-detectron`` finds them by name, and the scripts of a clone call them.
"""
