//! `nb kernel list|start|stop|interrupt|restart`: the kernels of a gateway, by its public REST.

use hyper::Method;
use serde_json::{Value, json};

use crate::cli::access::Access;
use crate::cli::{output, runtime};
use crate::error::Error;
use crate::front::{Answer, Gateway};
use crate::kernels::registry::parse_id;
use crate::table::table;

/// Fewer characters of an id name no kernel.
const PREFIX_MIN: usize = 4;

/// Lists the kernels that the token may see
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    access: Access,
}

/// Starts a kernel and prints its id once it is ready
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// The kernelspec [default: the gateway's]
    spec: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// One kernel.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The kernel's id, or the beginning of it
    kernel: String,
    #[command(flatten)]
    access: Access,
}

/// What is done to one kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb {
    Stop,
    Interrupt,
    Restart,
}

impl List {
    pub(super) fn run(&self) -> Result<(), Error> {
        let kernels = runtime()?.block_on(async { kernels(&self.access.open().await?).await })?;
        if self.access.json {
            return output::json(&kernels.into());
        }
        let rows: Vec<_> = kernels.iter().map(row).collect();
        let heads = ["id", "kernel", "state", "connections", "last activity"];
        output::text(&table(heads, &rows))
    }
}

impl Start {
    pub(super) fn run(&self) -> Result<(), Error> {
        let kernel = runtime()?.block_on(async {
            let gateway = self.access.open().await?;
            let body = json!({"name": self.spec});
            let started = gateway.ask_long(Method::POST, "/api/kernels", &body);
            started.await?.good()
        })?;
        match self.access.json {
            true => output::json(&kernel),
            false => output::line(text(&kernel, "id")),
        }
    }
}

impl One {
    pub(super) fn run(&self, verb: Verb) -> Result<(), Error> {
        let (id, answer) = runtime()?.block_on(async {
            let gateway = self.access.open().await?;
            let id = find_id(&gateway, &self.kernel).await?;
            let (method, more, done) = match verb {
                Verb::Stop => (Method::DELETE, "", "stopped"),
                Verb::Interrupt => (Method::POST, "/interrupt", "interrupted"),
                Verb::Restart => (Method::POST, "/restart", "restarted"),
            };
            let path = format!("/api/kernels/{id}{more}");
            let answer = gateway.ask_long(method, &path, &Value::Null).await?;
            answer.good()?;
            Ok::<_, Error>((id, done))
        })?;
        match self.access.json {
            true => output::json(&json!({"id": id, "outcome": answer})),
            false => output::line(&format!("{id} {answer}")),
        }
    }
}

/// The id of the kernel that is named by it or by its beginning.
pub(super) async fn find_id(gateway: &Gateway, named: &str) -> Result<String, Error> {
    if parse_id(named).is_some() {
        return Ok(named.to_owned());
    }
    if named.len() < PREFIX_MIN {
        let message = format!("{named:?} is no id of a kernel, nor {PREFIX_MIN} characters of one");
        return Err(Error::user(message));
    }
    let kernels = kernels(gateway).await?;
    let ids = kernels.iter().map(|kernel| text(kernel, "id"));
    let matching: Vec<_> = ids.filter(|id| id.starts_with(named)).collect();
    match matching.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(Error::user(format!(
            "there is no kernel {named}; see `nb kernel list`"
        ))),
        several => Err(Error::user(format!(
            "{} kernels have ids that begin with {named}; give more of it",
            several.len()
        ))),
    }
}

async fn kernels(gateway: &Gateway) -> Result<Vec<Value>, Error> {
    let answer = gateway.ask(Method::GET, "/api/kernels", &Value::Null).await;
    match answer.and_then(Answer::good)? {
        Value::Array(kernels) => Ok(kernels),
        _ => Err(Error::user("what answers there is no kernel gateway")),
    }
}

fn row(kernel: &Value) -> [String; 5] {
    let [id, name, state, activity] =
        ["id", "name", "execution_state", "last_activity"].map(|key| text(kernel, key).to_owned());
    let connections = kernel.get("connections").map(Value::to_string);
    [id, name, state, connections.unwrap_or_default(), activity]
}

pub(super) fn text<'a>(kernel: &'a Value, key: &str) -> &'a str {
    kernel.get(key).and_then(Value::as_str).unwrap_or_default()
}
