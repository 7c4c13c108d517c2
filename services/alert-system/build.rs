//! Builds again when a migration changes, which Cargo would not notice by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/alert-system");
}
