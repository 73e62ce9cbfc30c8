"""The tape: running an op records it; backward walks the records. Tensors are what people hold."""
