//! Command line of the Stormglass agent.
fn main() {}
