#![doc = include_str!("README.md")]

pub mod admin;
pub mod args;
pub mod backoff;
pub mod chatcaptain;
pub mod cloud_events;
pub mod cluster;
pub mod controller;
pub mod crd;
pub mod health;
pub mod lease;
pub mod network;
pub mod plan;
pub mod startup;
pub mod sync;
pub mod telemetry;
