//! Detectors against simulated servers: every kind fires on its storm, and none on normal life.

mod baseline;
mod commands;
mod events;
mod life;
mod names;
mod normal_life;
mod scenarios;
mod simulator;
mod storms;
