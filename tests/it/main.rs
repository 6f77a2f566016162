//! The real binary against real kernels, over real sockets: one test program for all of it.

mod cli;
mod client;
mod clients;
mod culling;
mod cutter;
mod deaths;
mod front;
mod gateway;
mod headless;
mod interrupts;
mod jupyter_server;
mod kernel_commands;
mod legacy;
mod magics;
mod messages;
mod misbehaviour;
mod notebooks;
mod people;
mod rest;
mod starting;
mod starts;
mod supervisor;
mod survival;
mod text_frames;
mod up;
mod wire;
