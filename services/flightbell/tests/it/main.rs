//! The whole, walked end to end with real processes: from `POST /users` to the text in the chat.

#![cfg(test)]

mod commands;
mod demo;
mod doctor;
mod gateway;
mod given;
mod kills;
mod letters;
mod migrate;
mod program;
mod readme;
mod room;
mod stops;
mod town;
mod trunk;
mod up;
mod upgrade;
