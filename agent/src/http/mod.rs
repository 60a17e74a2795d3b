//! HTTP: metrics, health, API.
