"""What a role of PostgreSQL could change: asked of the server, for itself and every role that it
may become. ``default_transaction_read_only`` is no guard: any session may set it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardround.client.sources.sql.database import Database

_ROLES = """
SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles
WHERE pg_has_role(current_user, oid, 'MEMBER')
"""
_POWERS = ("is a superuser", "may make roles", "may make databases", "may replicate")
_WRITERS = (
    "pg_write_all_data",
    "pg_write_server_files",
    "pg_execute_server_program",
    "pg_maintain",
    "pg_checkpoint",
    "pg_signal_backend",
)
_MINE = "SELECT oid FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER')"
_TABLES = f"""
SELECT n.nspname, c.relname, count(*) OVER ()
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema'
  AND n.nspname !~ '^pg_'
  AND EXISTS (SELECT 1 FROM ({_MINE}) m WHERE
    has_table_privilege(m.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
    OR has_any_column_privilege(m.oid, c.oid, 'INSERT, UPDATE'))
ORDER BY 1, 2 LIMIT 3
"""
_SCHEMAS = f"""
SELECT n.nspname, count(*) OVER () FROM pg_namespace n
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND EXISTS (SELECT 1 FROM ({_MINE}) m WHERE has_schema_privilege(m.oid, n.oid, 'CREATE'))
ORDER BY 1 LIMIT 3
"""
_DATABASE = f"""
SELECT EXISTS (SELECT 1 FROM ({_MINE}) m
  WHERE has_database_privilege(m.oid, current_database(), 'CREATE'))
"""


def what_it_may_write(database: Database) -> tuple[str, str]:
    """What it could change, and the mend; '' for nothing. Raises DataError."""
    roles = database.ask(_ROLES)
    who = str(database.ask("SELECT current_user")[0][0])
    reader = "make a role that can only read: GRANT USAGE ON SCHEMA ..., GRANT SELECT ON ... TO it"
    for role, *powers in sorted(roles, key=lambda row: row[0] != who):
        able = next((word for word, has in zip(_POWERS, powers, strict=True) if has), "")
        if role in _WRITERS:
            able = "may write or run what it wants"
        if able:
            through = "" if role == who else f"role '{who:.63}' is a member of "
            return f"{through}role '{role:.63}' {able}".replace("of role", "of"), reader
    if tables := database.ask(_TABLES):
        some = ", ".join(f"{schema}.{name}"[:130] for schema, name, _ in tables)
        more = f" and {tables[0][2] - len(tables)} more" if tables[0][2] > len(tables) else ""
        first = f"{tables[0][0]}.{tables[0][1]}"
        return f"role '{who:.63}' may write {some}{more}", (
            f"{reader}, and REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {first:.130}"
        )
    if schemas := database.ask(_SCHEMAS):
        schema = str(schemas[0][0])
        return f"role '{who:.63}' may make tables in schema {schema:.63}", (
            f"REVOKE CREATE ON SCHEMA {schema:.63} FROM PUBLIC (or FROM the role that has it)"
        )
    if database.ask(_DATABASE)[0][0]:
        return f"role '{who:.63}' may make schemas in this database", (
            "REVOKE CREATE ON DATABASE ... FROM it"
        )
    return "", ""
