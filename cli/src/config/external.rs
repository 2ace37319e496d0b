//! The external hosts that a `[controllers.NAME]` grants, and what their names may lead to.

use std::net::IpAddr;

use ipnet::IpNet;
use wasmop_core::permissions::external::ExternalGrant;

use crate::error::Failure;
use crate::rules::{EXTERNAL_HOSTS, external_hosts};
use crate::toml_table::Table;

const PRIVATE_ADDRESSES: &str = "private-addresses";
const ALL: &str = "all";

pub(super) fn read(table: &Table<'_>) -> Result<ExternalGrant, Failure> {
    let hosts = if table.is_string(EXTERNAL_HOSTS) {
        let text = table.required(EXTERNAL_HOSTS, ALL)?;
        if text != ALL {
            let help = format!("write `{EXTERNAL_HOSTS} = \"{ALL}\"`, `[]` for none, or a list of hosts");
            return Err(table.bad_value(EXTERNAL_HOSTS, format!("`{text}` is no grant"), help));
        }
        None
    } else if table.keys().any(|key| key == EXTERNAL_HOSTS) {
        Some(external_hosts(table)?.into())
    } else {
        None
    };
    let range = |text: &String| {
        let range = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        range.filter(|range| range.trunc() == *range).ok_or_else(|| {
            let help = "write a range like `10.96.0.0/12`, without bits behind the prefix, or an address";
            table.bad_value(PRIVATE_ADDRESSES, format!("`{text}` is no range of addresses"), help)
        })
    };
    let private_addresses = table.strings(PRIVATE_ADDRESSES)?.iter().map(range).collect::<Result<_, _>>()?;
    Ok(ExternalGrant { hosts, private_addresses })
}
