//! The names that SQL sees: catalog `headwater` with the schemas `public` and `system`, over one
//! snapshot, and what `information_schema` tells of them. Owns how a name finds its table; must never look at another snapshot half-way.

mod information;
mod system;
mod table;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use wal::TableSchema;

use information::{INFORMATION_SCHEMA, InformationSchema};
use table::LogTable;
pub(crate) use view::View;

/// The one catalog there is.
#[derive(Debug)]
pub(crate) struct Catalogs(Arc<Schemas>);

impl Catalogs {
    pub(crate) fn new(view: View) -> Self {
        let public = Arc::new(PublicSchema { view: view.clone() });
        Self(Arc::new(Schemas {
            public,
            system: Arc::new(SystemSchema { view }),
        }))
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let schemas: Arc<dyn CatalogProvider> = Arc::<Schemas>::clone(&self.0);
        (name == CATALOG).then_some(schemas)
    }
}

#[derive(Debug)]
struct Schemas {
    public: Arc<PublicSchema>,
    system: Arc<SystemSchema>,
}

impl CatalogProvider for Schemas {
    fn schema_names(&self) -> Vec<String> {
        [PUBLIC, SYSTEM, INFORMATION_SCHEMA]
            .map(str::to_owned)
            .into()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            PUBLIC => Some(Arc::<PublicSchema>::clone(&self.public)),
            SYSTEM => Some(Arc::<SystemSchema>::clone(&self.system)),
            INFORMATION_SCHEMA => Some(Arc::new(InformationSchema::new(
                CATALOG,
                vec![
                    (PUBLIC, Arc::<PublicSchema>::clone(&self.public)),
                    (SYSTEM, Arc::<SystemSchema>::clone(&self.system)),
                ],
            ))),
            _ => None,
        }
    }
}

/// Stored tables, by their stored names.
#[derive(Debug)]
struct PublicSchema {
    view: View,
}

impl PublicSchema {
    fn names(&self) -> impl Iterator<Item = &str> {
        let tables = self.view.snapshot.catalog().tables();
        tables
            .map(|table| table.name.as_str())
            .filter(|name| !name.starts_with(SYSTEM_PREFIX))
    }

    fn find(&self, name: &str) -> Option<Arc<TableSchema>> {
        let stored = resolve(self.names(), name)?;
        self.view.snapshot.catalog().table(stored).cloned()
    }
}

#[async_trait]
impl SchemaProvider for PublicSchema {
    fn table_names(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.find(name).map(|schema| log_table(schema, &self.view)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

/// Stored tables named `system.*`, and the state of this node as tables.
#[derive(Debug)]
struct SystemSchema {
    view: View,
}

impl SystemSchema {
    fn names(&self) -> impl Iterator<Item = &str> {
        let tables = self.view.snapshot.catalog().tables();
        let stored = tables
            .filter_map(|table| table.name.strip_prefix(SYSTEM_PREFIX))
            .filter(|name| !system::TABLES.contains(name));
        system::TABLES.iter().copied().chain(stored)
    }

    fn stored(&self, name: &str) -> Option<&Arc<TableSchema>> {
        self.view
            .snapshot
            .catalog()
            .table(&format!("{SYSTEM_PREFIX}{name}"))
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        self.names().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(name) = resolve(self.names(), name) else {
            return Ok(None);
        };
        match self.stored(name) {
            // What the node says of itself goes before whatever is stored under the same name.
            Some(schema) if !system::is_live(name) => {
                Ok(Some(log_table(Arc::clone(schema), &self.view)))
            }
            _ => system::table(name, &self.view),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        resolve(self.names(), name).is_some()
    }
}

fn log_table(schema: Arc<TableSchema>, view: &View) -> Arc<dyn TableProvider> {
    let (snapshot, counters) = (Arc::clone(&view.snapshot), Arc::clone(&view.counters));
    Arc::new(LogTable::new(schema, snapshot, counters))
}

/// The name that equals `wanted`; else the only one that does so when case is ignored, because
/// SQL folds what is not quoted to lower case.
fn resolve<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    let folded = wanted.to_lowercase();
    let mut similar = Vec::new();
    for name in names {
        if name == wanted {
            return Some(name);
        }
        if name.to_lowercase() == folded {
            similar.push(name);
        }
    }
    match similar.as_slice() {
        [only] => Some(*only),
        _ => None,
    }
}

/// The catalog.
pub(crate) const CATALOG: &str = "headwater";
/// The schema of the users' tables, and the default.
pub(crate) const PUBLIC: &str = "public";
/// The schema of the product's own tables.
pub(crate) const SYSTEM: &str = "system";
/// What the stored names of the product's own tables start with.
const SYSTEM_PREFIX: &str = "system.";

#[cfg(test)]
mod tests {
    use super::resolve;

    fn find<'a>(names: &[&'a str], wanted: &str) -> Option<&'a str> {
        resolve(names.iter().copied(), wanted)
    }

    #[test]
    fn exact_names_win_and_case_is_ignored_only_where_it_is_clear() {
        assert_eq!(find(&["Plant", "plant"], "plant"), Some("plant"));
        assert_eq!(find(&["Plant", "plant"], "Plant"), Some("Plant"));
        assert_eq!(find(&["Plant"], "plant"), Some("Plant"));
        assert_eq!(find(&["Plant", "PLANT"], "plant"), None);
        assert_eq!(find(&["a.b", "c d"], "C D"), Some("c d"));
        assert_eq!(find(&[], "plant"), None);
    }
}
