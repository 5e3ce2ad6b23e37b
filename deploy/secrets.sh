#!/bin/sh
# Makes the secrets of docker-compose.yml, random and once: what is there already stays as it is.
# Others of this machine cannot enter the folder; the files are readable to all, because the users inside
# the containers are not this one.
set -eu
umask 022
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 700 "$folder"

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ -e "$folder/database_url" ] && [ -e "$folder/amqp_url" ]; then
    echo "secrets: $folder is complete; a new database or broker needs no new ones" >&2
    exit
fi

database=$(password)
printf '%s' "$database" >"$folder/database_password"
printf 'postgresql://logweir:%s@timescaledb:5432/logweir\n' "$database" >"$folder/database_url"

broker=$(password)
printf 'default_user = logweir\ndefault_pass = %s\n' "$broker" >"$folder/rabbitmq_user.conf"
printf 'amqp://logweir:%s@rabbitmq:5672/%%2f\n' "$broker" >"$folder/amqp_url"
echo "secrets: made in $folder" >&2
