"""Decode, measure, make plain, cut, join and label: everything that opens the bytes of a stranger's file.

What is here decodes with FFmpeg (PyAV), Pillow and libheif (pi-heif), and imports nothing else of this project. Only
`child` and `prepare` are for callers: they run every decoder in a process of its own, with limits.
"""
