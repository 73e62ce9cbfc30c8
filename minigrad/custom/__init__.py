"""`@mg.op`: ops of one's own, compiled, checked as they are declared, and used like any other, eager and captured."""
