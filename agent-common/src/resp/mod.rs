//! The RESP meter.
