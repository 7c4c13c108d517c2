//! The whole, walked end to end with real processes: from `POST /users` to the text in the chat.

#![cfg(test)]

mod commands;
mod dead_letters;
mod demo;
mod deployment;
mod doctor;
mod external_servers;
mod gateway;
mod kills;
mod machine;
mod migrate;
mod program;
mod readme;
mod room;
mod settings;
mod stops;
mod trunk;
mod undelivered;
mod up;
mod upgrade;
