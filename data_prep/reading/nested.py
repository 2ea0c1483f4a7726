"""Columns within others: fields by dots, and the events of a row as a list.

``item.id`` is the field ``id`` of ``item``. Where ``events`` is a list, ``events.id``
are the fields of its elements, ``events[]`` those themselves, and a row is as many
events.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading.bad_rows import Fault
from data_prep.reading.checked import compute
from data_prep.reading.columns import ReadRows
from tron_jax.errors import UserError


class Field(NamedTuple):
    """Where the values of a column are.

    path: names from the row on; in_list: where that leads to a list, names from its
    elements on, None elsewhere.
    """

    path: tuple[str, ...]
    in_list: tuple[str, ...] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether this is a column of its own."""
        return len(self.path) == 1 and self.in_list is None

    @property
    def names(self) -> tuple[str, ...]:
        """All names from the row on, ``[]`` where a list is."""
        return self.path if self.in_list is None else (*self.path, "[]", *self.in_list)

    def within(self, name: str) -> "Field":
        """Returns the field of a name in this one."""
        if self.in_list is None:
            return Field((*self.path, name))
        return Field(self.path, (*self.in_list, name))


def fields_of_schema(schema: pa.Schema) -> dict[str, Field]:
    """Returns all columns by their names, of which literal ones go first."""
    found = {name: Field((name,)) for name in schema.names}
    for field in schema:
        for name, where in _fields_of_type(
            field.name, Field((field.name,)), field.type
        ):
            found.setdefault(name, where)
    return found


def _fields_of_type(
    name: str, where: Field, kind: pa.DataType
) -> Iterator[tuple[str, Field]]:
    if is_list(kind) and where.in_list is None:
        where, kind = where._replace(in_list=()), kind.value_type
        yield f"{name}[]", where
    for field in kind if pa.types.is_struct(kind) else ():
        inner = f"{name}.{field.name}", where.within(field.name)
        yield inner
        yield from _fields_of_type(*inner, field.type)


def fields_of_objects(rows: Sequence[dict[str, Any]]) -> dict[str, Field]:
    """Returns all columns of some objects, as ``fields_of_schema`` does."""
    found = {name: Field((name,)) for row in rows for name in row}
    for row in rows:
        for key, value in row.items():
            for name, where in _fields_of_value(key, Field((key,)), value):
                found.setdefault(name, where)
    return found


def fields_in_empty_lists(
    names: Iterable[str], rows: Sequence[dict[str, Any]], found: Mapping[str, Field]
) -> dict[str, Field]:
    """Returns those of some columns that lie in a list which is empty in all rows."""
    fields = {}
    for name in names:
        for at in (at for at, sign in enumerate(name) if sign == "."):
            where = found.get(f"{name[:at]}[]")
            if name in found or where is None:
                continue
            if not any(value_at(row, where) for row in rows):
                inner = tuple(name[at + 1 :].split("."))
                fields[name] = where._replace(in_list=inner)
    return fields


def _fields_of_value(
    name: str, where: Field, value: Any
) -> Iterator[tuple[str, Field]]:
    values = [value]
    if isinstance(value, list) and where.in_list is None:
        where, values = where._replace(in_list=()), value
        yield f"{name}[]", where
    for one in values:
        for key, value_of_key in one.items() if isinstance(one, dict) else ():
            inner = f"{name}.{key}", where.within(key)
            yield inner
            yield from _fields_of_value(*inner, value_of_key)


def value_at(row: dict[str, Any], where: Field) -> Any:
    """Returns a field of an object, a list where it is one; None where it lacks it."""
    value = _walk(row, where.path)
    if where.in_list is not None and isinstance(value, list):
        return [_walk(one, where.in_list) for one in value]
    return value


def _walk(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def refuse_holders(
    path: Path, needed: Mapping[str, Field], present: Sequence[str], holders: set[str]
) -> None:
    """Refuses columns that hold others, such as ``item`` where there is ``item.id``.

    Args:
      path: the file, for messages.
      needed: columns.
      present: the names of all.
      holders: those of the needed ones that hold nothing else.
    """
    for name, where in needed.items():
        size = len(where.names)
        others = {other.names[:size] for other in needed.values() if other != where}
        if name in holders or where.names in others:
            start = f"{name.removesuffix('[]')}."
            inner = [other for other in present if other.startswith(start)]
            what = f"it holds {', '.join(inner) or 'no fields'}; name one of them"
            raise UserError(f"{path}: column {name!r}: {what}")


def schema_of(
    types: Mapping[str, pa.DataType], fields: Mapping[str, Field]
) -> pa.Schema:
    """Returns the schema of rows that have these columns, which hold no others."""
    tree: dict[str, Any] = {}
    for name, kind in types.items():
        names = fields[name].names
        node = tree
        for part in names[:-1]:
            node = node.setdefault(part, {})
        node[names[-1]] = kind
    return pa.schema(list(_types_of(tree)))


def _types_of(tree: dict[str, Any]) -> Iterator[tuple[str, pa.DataType]]:
    for name, node in tree.items():
        if isinstance(node, dict):
            types = list(_types_of(node))
            of_list = len(types) == 1 and types[0][0] == "[]"
            yield name, pa.list_(types[0][1]) if of_list else pa.struct(types)
        else:
            yield name, node


def as_read(types: Mapping[str, pa.DataType], fields: Mapping[str, Field]) -> pa.Schema:
    """Returns the schema of these columns once they were picked, lists or not."""
    return pa.schema(
        [
            (name, kind if fields[name].in_list is None else pa.large_list(kind))
            for name, kind in types.items()
        ]
    )


def pick(table: pa.Table, fields: Mapping[str, Field]) -> pa.Table:
    """Makes a table of columns that lie anywhere in another's, by their names."""
    columns = {}
    for name, where in fields.items():
        column = table[where.path[0]]
        if len(where.path) > 1:
            column = _field_of(column, where.path[1:])
        columns[name] = in_elements(column, where)
    return pa.table(columns)


def in_elements(lists: pa.ChunkedArray, where: Field) -> pa.ChunkedArray:
    """Turns lists of structs to lists of the field that is meant."""
    if not where.in_list:
        return lists
    array = lists.combine_chunks()
    inner = _field_of(array.flatten(), where.in_list)
    ends = np.cumsum(_lengths(array).clip(0), dtype=np.int64)
    offsets = pa.array(np.concatenate([[0], ends]))
    made = pa.LargeListArray.from_arrays(offsets, inner, mask=array.is_null())
    return pa.chunked_array([made])


def _field_of(structs: pa.Array, names: Sequence[str]) -> Any:
    """Returns a field of structs; null where one of them is."""
    return compute("struct_field", structs, options=pc.StructFieldOptions(list(names)))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds lists."""
    of = pa.types
    return of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind)


def type_at(schema: pa.Schema, where: Field) -> pa.DataType:
    """Returns the type of a column, of what is in a list that of its elements."""
    kind = schema.field(where.path[0]).type
    for name in where.path[1:]:
        kind = kind.field(name).type
    if where.in_list is not None:
        kind = kind.value_type
        for name in where.in_list:
            kind = kind.field(name).type
    return kind


def element_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of a column, or of the elements of its lists."""
    return kind.value_type if is_list(kind) else kind


def spread(rows: ReadRows, fields: Mapping[str, Field]) -> ReadRows:
    """Makes a row of each event where some columns are lists of them.

    A row without a list, or with lists of other lengths than each other, is at fault.
    """
    lists = {
        name: rows.table[name].combine_chunks()
        for name, where in fields.items()
        if where.in_list is not None
    }
    if not lists:
        return rows
    lengths = {name: _lengths(column) for name, column in lists.items()}
    faults, good = list(rows.faults), np.ones(len(rows.numbers), bool)
    first, most = next(iter(lengths.items()))
    for name, count in lengths.items():
        missing = np.flatnonzero(count < 0)
        problem = f", column {name!r}: empty; expected a list of events"
        faults.append(Fault(rows.numbers[missing], lambda n, text=problem: text))
        uneven = np.flatnonzero((count != most) & (count >= 0) & (most >= 0))
        faults.append(
            Fault(
                rows.numbers[uneven],
                lambda n, name=name, at=uneven: (
                    f": {most[at[n]]} of {first!r}, but {lengths[name][at[n]]} of "
                    f"{name!r}; expected lists of the same length"
                ),
            )
        )
        good &= (count == most) & (count >= 0)
    kept = pa.array(good)
    index = np.repeat(np.flatnonzero(good), most[good])
    columns = {
        name: lists[name].filter(kept).flatten()
        if name in lists
        else rows.table[name].take(pa.array(index))
        for name in rows.table.column_names
    }
    return ReadRows(rows.path, pa.table(columns), rows.numbers[index], faults)


def _lengths(lists: pa.Array) -> np.ndarray:
    """[rows] int64; -1 where there is no list."""
    counts = compute("list_value_length", lists)
    return pc.fill_null(counts, -1).to_numpy().astype(np.int64)
