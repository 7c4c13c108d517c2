# shellcheck shell=bash disable=SC2034,SC2154 # Variables are shared with setup_cluster.sh.
# What the operator gives: keys of .env, or of the environment, which wins. .env is read, never run. Sourced, by
# setup_cluster.sh and by packaging/compose/secrets.sh.

# Keys that are read; others are left alone.
CREDENTIALS="TELEGRAM_BOT_TOKEN OPEN_SKY_CLIENT_ID OPEN_SKY_CLIENT_SECRET"
CREDENTIALS="$CREDENTIALS USER_MANAGER_DATABASE_URL DATA_COLLECTOR_DATABASE_URL"
CREDENTIALS="$CREDENTIALS ALERT_SYSTEM_DATABASE_URL NOTIFIER_DATABASE_URL"
CREDENTIALS="$CREDENTIALS KAFKA_SASL_USERNAME KAFKA_SASL_PASSWORD KAFKA_CA_FILE"

# Puts each key that is given, and not empty, into a file of its name.
read_credentials() {
    local key
    mkdir -p "$work/given"
    if [ -f "$env_file" ]; then
        read_env_file
    elif [ -n "${env_file_given-}" ]; then
        fail "there is no file $env_file"
    fi
    for key in $CREDENTIALS; do
        if [ -n "${!key-}" ]; then
            printf '%s' "${!key}" >"$work/given/$key"
        fi
    done
    if is_given OPEN_SKY_CLIENT_ID && ! is_given OPEN_SKY_CLIENT_SECRET; then
        fail "OPEN_SKY_CLIENT_ID is given without OPEN_SKY_CLIENT_SECRET: give both, or neither for anonymous access"
    elif is_given OPEN_SKY_CLIENT_SECRET && ! is_given OPEN_SKY_CLIENT_ID; then
        fail "OPEN_SKY_CLIENT_SECRET is given without OPEN_SKY_CLIENT_ID: give both, or neither for anonymous access"
    fi
}

is_given() {
    [ -s "$work/given/$1" ]
}

read_env_file() {
    local line key value number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%$'\r'}
        line=${line#"${line%%[![:space:]]*}"}
        line=${line#export }
        case $line in
        '' | '#'*) continue ;;
        [A-Za-z_]*=*) ;;
        # Never the line itself: it may hold a secret.
        *) fail "line $number of $env_file is not KEY=VALUE" ;;
        esac
        key=${line%%=*}
        key=${key%"${key##*[![:space:]]}"}
        case " $CREDENTIALS " in
        *" $key "*) ;;
        *) continue ;;
        esac
        parse_value "${line#*=}" || fail "line $number of $env_file: the quotes of $key do not end"
        if [ -n "$value" ]; then
            printf '%s' "$value" >"$work/given/$key"
        else
            rm -f "$work/given/$key"
        fi
    done <"$env_file"
}

# Sets `value`: of 'single quotes' as it stands, of "double quotes" with \" and \\, and else up to blanks and a comment.
parse_value() {
    local text=$1
    case $text in
    [[:space:]]*)
        text=${text#"${text%%[![:space:]]*}"}
        case $text in '#'*) text= ;; esac
        ;;
    esac
    value=
    case $text in
    \'*)
        text=${text#\'}
        case $text in *\'*) value=${text%%\'*} ;; *) return 1 ;; esac
        ;;
    \"*)
        text=${text#\"}
        while :; do
            case $text in
            '') return 1 ;;
            \"*) break ;;
            \\[\\\"]*) text=${text#\\} ;;
            esac
            value=$value${text%"${text#?}"}
            text=${text#?}
        done
        ;;
    *)
        value=${text%%[[:space:]]#*}
        value=${value%"${value##*[![:space:]]}"}
        ;;
    esac
}

# The notifier cannot run without a token. Called before anything is changed.
need_telegram_token() {
    if is_given TELEGRAM_BOT_TOKEN || secret_in_cluster_has notifier telegram-bot-token; then
        return
    fi
    ask_for_telegram_token
}

ask_for_telegram_token() {
    fail "TELEGRAM_BOT_TOKEN is missing; nothing was changed" \
        "Write to @BotFather in Telegram: /newbot, then a name. It answers with a token. Put it into $env_file:" \
        "TELEGRAM_BOT_TOKEN=<the token>"
}
