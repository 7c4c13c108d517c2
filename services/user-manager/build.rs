//! Rebuilds when a migration changes, since the migrations are part of the program.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/user-manager");
}
