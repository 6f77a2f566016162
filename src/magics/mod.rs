//! What our own cells do, whatever language the kernel speaks.
