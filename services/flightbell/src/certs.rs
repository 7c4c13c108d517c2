//! `flightbell certs`: an authority of one's own, and a server certificate that it signs.

use anyhow::Context;
use chrono::Utc;

use crate::{certificates::authority, cli};

/// Makes what is missing, renews what is due, and says what there is now.
///
/// # Errors
/// When a file cannot be read or written, or the authority cannot be used any more.
#[expect(clippy::print_stdout, reason = "this is what was asked for")]
pub fn run(args: &cli::Certs) -> anyhow::Result<()> {
    let outcome = authority::bring_up_to_date(&args.dir, &args.names, Utc::now());
    let outcome = outcome.with_context(|| format!("make certificates in {}", args.dir.display()))?;
    if outcome.is_new_authority {
        println!("ca.pem: made; clients that trust it accept the server");
    }
    let end = outcome.valid_until.format("%Y-%m-%d");
    match outcome.renewed {
        Some(reason) => println!("cert.pem: made, since {reason}; valid until {end}"),
        None => println!("cert.pem: unchanged, valid until {end}"),
    }
    Ok(())
}
