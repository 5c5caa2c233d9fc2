//! What the nodes behind a secondary vouch for, heard over its connection: each by its own
//! signature. It owns whose certificates have come, and must never believe the secondary about
//! anybody but itself.

use std::collections::HashMap;
use std::sync::Arc;

use wal::{Chain, Log};

use crate::certs::identity::Identity;
use crate::certs::member::Member;
use crate::part::PartHeld;
use crate::serve::entries::Vouched;
use crate::serve::error::ShipError;
use crate::serve::memory::Memory;
use crate::wire::statement::{
    MAX_CERTIFICATE, MAX_CERTIFICATES, MAX_SIGNATURE, MAX_STATEMENTS, Statement, Statements, fnv,
};

/// Of one connection.
#[derive(Default)]
pub(crate) struct Vouchers {
    /// By the hash of their certificates; none: it is not let in here.
    members: HashMap<u64, Option<(Arc<Member>, PartHeld)>>,
    /// What was found to be signed, so that it is not looked at again.
    signed: HashMap<u64, Statement>,
}

impl Vouchers {
    /// Another node's certificate came.
    pub(crate) fn admit(
        &mut self,
        der: &[u8],
        here: &Identity,
        memory: &Memory,
    ) -> Result<(), ShipError> {
        if self.members.len() >= MAX_CERTIFICATES {
            let reason = "it shows more certificates than nodes may be behind it";
            return Err(ShipError::Protocol(reason.to_owned()));
        }
        let held = memory.told(MEMBER_BYTES);
        let member = Member::admit(der, here).map(Arc::new);
        self.members.insert(fnv(der), member.zip(held));
        Ok(())
    }

    /// Those of these statements that are believed.
    pub(crate) fn check(
        &mut self,
        statements: Statements,
        log: &Log,
        here: &Identity,
    ) -> Result<Vec<Vouched>, ShipError> {
        let nodes = statements.nodes;
        if nodes.len() > MAX_STATEMENTS || !nodes.iter().all(Statement::is_short) {
            let reason = "it hands on more statements, or longer ones, than there may be";
            return Err(ShipError::Protocol(reason.to_owned()));
        }
        let believed = nodes.into_iter().filter_map(|statement| {
            let member = self.members.get(&statement.node)?.as_ref();
            let member = member.map(|(member, _)| Arc::clone(member))?;
            let theirs = Chain(statement.chain);
            let is_ours = log
                .chain_at(statement.lsn())
                .is_none_or(|own| own == theirs);
            if !is_ours || member.is_revoked(here) || !self.is_signed(&member, &statement, log) {
                return None;
            }
            Some(Vouched { member, statement })
        });
        Ok(believed.collect())
    }

    fn is_signed(&mut self, member: &Member, statement: &Statement, log: &Log) -> bool {
        if self.signed.get(&statement.node) == Some(statement) {
            return true;
        }
        let bytes = statement.signed(log.id());
        let is_signed = member.has_signed(&bytes, statement.scheme, &statement.signature);
        if is_signed {
            self.signed.insert(statement.node, statement.clone());
        }
        is_signed
    }
}

/// What a node takes of the memory while its certificate and its last word are kept.
const MEMBER_BYTES: u64 = (MAX_CERTIFICATE + 2 * MAX_SIGNATURE) as u64;
