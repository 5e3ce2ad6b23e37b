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

# Makes a file of standard input, unless it is there.
keep() {
    if [ -s "$folder/$1" ]; then
        cat >/dev/null
    else
        cat >"$folder/$1"
        echo "secrets: made $folder/$1" >&2
    fi
}

password | keep database_password
printf 'postgresql://logweir:%s@timescaledb:5432/logweir\n' "$(cat "$folder/database_password")" |
    keep database_url

printf 'default_user = logweir\ndefault_pass = %s\n' "$(password)" | keep rabbitmq_user.conf
broker=$(sed -n 's/^default_pass = //p' "$folder/rabbitmq_user.conf")
printf 'amqp://logweir:%s@rabbitmq:5672/%%2f\n' "$broker" | keep amqp_url
