//! The rows of what is known at the start, written while the verifier still looks at the programs.

use crate::config::Config;
use crate::dataplane::StartError;
use crate::desired::Desired;
use crate::diff::Write;
use crate::pin::Pins;
use crate::plan::Planner;
use crate::reach::Reach;
use crate::tables::{TableError, Tables};

/// Writes that are put in order and made together.
const WRITES_TOGETHER: usize = 16_384;

/// Opens the tables and takes in what they hold; tables that are `fresh` hold nothing, and get the rows of what is known.
/// Rows from before a restart stay as they are: programs work by them.
pub(super) fn fill(
    config: &Config,
    pins: &Pins,
    fresh: bool,
    known: Option<&Desired>,
    reach: &Reach,
) -> Result<(Tables, Planner), StartError> {
    let mut tables = Tables::open(&pins.maps())?;
    let (rows, generations) = if fresh { Default::default() } else { tables.read()? };
    let capacities = pins.capacities(config.capacities)?;
    let mut planner = Planner::adopt(&config.node.name, capacities, rows, &generations);
    planner.set_reach(reach.clone());
    if let Some(known) = known.filter(|_| fresh) {
        // The number of the node itself comes first, as in every start.
        let address = config.node.addresses.first().map(|ip| (*ip).into());
        planner.node_index(&config.node.name, address);
        put_all(&mut planner, &mut tables, known)?;
    }
    Ok((tables, planner))
}

fn put_all(planner: &mut Planner, tables: &mut Tables, known: &Desired) -> Result<(), TableError> {
    let mut together = Vec::new();
    for step in Planner::put_all(known) {
        together.extend(planner.step(step).0);
        if together.len() >= WRITES_TOGETHER {
            write(tables, &mut together)?;
        }
    }
    write(tables, &mut together)
}

fn write(tables: &mut Tables, together: &mut Vec<Write>) -> Result<(), TableError> {
    in_order(together);
    tables.write(together)?;
    together.clear();
    Ok(())
}

/// Rows that others point to before those. All of them are new, so nothing that goes has to go first.
fn in_order(writes: &mut [Write]) {
    writes.sort_by_key(|write| match write {
        Write::PutBackend(..) => 1,
        Write::PutSlot(..) => 2,
        Write::PutService(..) => 3,
        _ => 0,
    });
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;

    use super::*;
    use crate::config::Capacities;
    use crate::desired::{Endpoint, Protocol, Service, ServiceName, ServicePort};
    use crate::rows::Rows;

    #[test]
    fn rows_of_many_services_are_few_runs_of_one_table_each() {
        let service = |number: u8| {
            let endpoint = |n| Endpoint::ready(IpAddr::from([10, 244, number, n]), 80, "node-2");
            let port = ServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: 0,
                endpoints: (0..10).map(endpoint).collect(),
            };
            let name = ServiceName::new("default", number.to_string());
            let cluster_ips = vec![IpAddr::from([10, 96, 0, number])];
            Service { name: name.clone(), cluster_ips, ports: vec![port], ..Service::default() }
        };
        let services = (1..100).map(|number| (service(number).name, service(number).into())).collect();
        let known = Desired { services, ..Desired::default() };
        let mut planner = Planner::adopt("node-1", Capacities::default(), Rows::default(), &HashMap::new());
        let mut writes = Vec::new();
        for step in Planner::put_all(&known) {
            writes.extend(planner.step(step).0);
        }
        in_order(&mut writes);
        let runs = writes.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b));
        assert_eq!(runs.map(<[Write]>::len).collect::<Vec<_>>(), [990, 990, 99]);
        // The planner holds them as written: the whole once more is nothing.
        for step in planner.replace_all(&known) {
            assert_eq!(planner.step(step).0, []);
        }
    }
}
