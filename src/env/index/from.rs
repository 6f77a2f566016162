//! What somebody has typed of where packages come from.

/// Where packages come from, as far as the command line says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct From {
    pub index: Option<String>,
    pub extra_indexes: Vec<String>,
    pub find_links: Vec<String>,
    pub no_index: bool,
    pub trusted_hosts: Vec<String>,
    pub proxy: Option<String>,
    pub cert: Option<String>,
}

impl From {
    /// What a file says beside a command line, which wins.
    pub(in crate::env) fn add(&mut self, other: Self) {
        self.index = self.index.take().or(other.index);
        self.extra_indexes.extend(other.extra_indexes);
        self.find_links.extend(other.find_links);
        self.no_index |= other.no_index;
        self.trusted_hosts.extend(other.trusted_hosts);
        self.proxy = self.proxy.take().or(other.proxy);
        self.cert = self.cert.take().or(other.cert);
    }
}
