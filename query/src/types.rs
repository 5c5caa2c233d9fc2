//! What types are called to users. Owns the one mapping from the engine's types to those of
//! PostgreSQL; must never name one of the engine's.

use arrow::datatypes::DataType;

/// As PostgreSQL's `information_schema` calls it: every array is `ARRAY`.
pub(crate) fn standard_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "bigint",
        DataType::UInt64
        | DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => "numeric",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => "text",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => "ARRAY",
        DataType::Struct(_) | DataType::Map(_, _) | DataType::Union(_, _) => "record",
        DataType::Dictionary(_, values) => standard_name(values),
        DataType::RunEndEncoded(_, values) => standard_name(values.data_type()),
    }
}

/// The same, with what an array is of: `bigint[]`.
pub(crate) fn full_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            format!("{}[]", full_name(field.data_type()))
        }
        other => standard_name(other).to_owned(),
    }
}

/// PostgreSQL's own short name, `udt_name`.
pub(crate) fn short_name(data_type: &DataType) -> String {
    let name = match standard_name(data_type) {
        "boolean" => "bool",
        "smallint" => "int2",
        "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "timestamp with time zone" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        "time without time zone" => "time",
        "ARRAY" => return format!("_{}", element_name(data_type)),
        other => other,
    };
    name.to_owned()
}

fn element_name(list: &DataType) -> String {
    match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            short_name(field.data_type())
        }
        _ => "anyelement".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, TimeUnit};

    use super::*;

    #[test]
    fn types_have_the_names_that_postgresql_gives_them() {
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
        let tag = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        for (data_type, name, short) in [
            (DataType::Int64, "bigint", "int8"),
            (DataType::Float64, "double precision", "float8"),
            (DataType::Utf8View, "text", "text"),
            (DataType::Boolean, "boolean", "bool"),
            (zoned, "timestamp with time zone", "timestamptz"),
            (tag, "text", "text"),
        ] {
            assert_eq!(full_name(&data_type), name);
            assert_eq!(short_name(&data_type), short);
        }
        assert_eq!(standard_name(&list), "ARRAY");
        assert_eq!(full_name(&list), "bigint[]");
        assert_eq!(short_name(&list), "_int8");
    }
}
