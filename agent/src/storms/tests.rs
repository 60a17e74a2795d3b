//! Detectors against simulated servers: every kind fires on its storm, and none on normal life.

mod events;
mod normal_life;
mod simulator;
mod storms;
