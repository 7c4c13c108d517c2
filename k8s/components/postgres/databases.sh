#!/bin/bash
# Makes the role and the database of each service, and sets each password to that of the Secret. Running it again changes
# passwords where the Secret has changed, and nothing else; open connections stay open.
#
# The place for further roles of a service, such as one for requests and one for background work.
set -euo pipefail
passwords=${PASSWORDS:-/run/flightbell/postgres}
services=(user-manager data-collector alert-system notifier)

PGPASSWORD=$(<"$passwords/postgres-password")
export PGHOST=${PGHOST:-postgres} PGUSER=postgres PGDATABASE=postgres PGPASSWORD PGCONNECT_TIMEOUT=5

until pg_isready --quiet; do
    echo "waiting for PostgreSQL"
    sleep 1
done

for service in "${services[@]}"; do
    # psql reads the values from its environment and quotes them, so that no password is an argument of a process.
    NAME=${service//-/_} PASSWORD=$(<"$passwords/$service-password")
    export NAME PASSWORD
    psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 <<'SQL'
\getenv name NAME
\getenv password PASSWORD
SELECT format('CREATE ROLE %I LOGIN', :'name')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
    echo "role and database $NAME are there"
done
