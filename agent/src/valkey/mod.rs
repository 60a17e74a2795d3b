//! Discovery of servers.
