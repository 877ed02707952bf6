"""The panel as a web page, on trame-slicer: for machines without Slicer, and for servers that have the GPU.

A panel section is a typed state (``state.py``), a class that draws it (``ui/``) and a class that acts (``logic/``);
drawing and acting meet in the state only. Nothing in this process imports torch: a worker does the computing.
"""
