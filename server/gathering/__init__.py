"""How hospitals' replies become sums and means where they come in plain: asked, checked, folded.

Every reply is checked here before anything of it is used. It never decides what is asked or why.
"""
