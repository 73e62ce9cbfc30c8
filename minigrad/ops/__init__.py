"""Ops: each declared once, in the file of its family. The declared object is the public function."""
