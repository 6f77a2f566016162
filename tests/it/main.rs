//! The real binary against real kernels, over real sockets: one test program for all of it.

mod cli;
mod client;
mod clients;
mod deaths;
mod gateway;
mod legacy;
mod magics;
mod misbehaviour;
mod notebooks;
mod rest;
mod starting;
mod starts;
mod supervisor;
mod survival;
mod wire;
