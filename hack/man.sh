#!/bin/sh
# man.sh BINARY OUTPUT: writes the manual page. Verbs and options are the ones that
# the program's own help names; the rest is docs/man/adl-runtime.8.in.
set -eu

binary=$1 output=$2
template=$(dirname "$0")/../docs/man/adl-runtime.8.in
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Lines "   --flag value, -f value  text" after $1 become .TP paragraphs.
options() {
	awk -v start="$1" '
	function roff(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); sub(/^[.\x27]/, "\\\\\\&&", s); return s }
	index($0, start) == 1 { on = 1; next }
	/^[A-Z]/ { on = 0 }
	on && match($0, /^   -[^ ]( ?[^ ])*  +/) {
		flag = substr($0, 4, RLENGTH - 3); sub(/ +$/, "", flag)
		if (flag ~ /--help/) next
		print ".TP\n.B " roff(flag) "\n" roff(substr($0, RLENGTH + 1))
	}'
}
arguments() { sed -n '/^USAGE:/{n;s/^ *adl-runtime [a-z]* *\(\[command options\]\)\{0,1\} *//p}' | sed 's/-/\\-/g'; }
summary() { sed -n '2s/^ *adl-runtime [a-z]* - //p' | sed 's/-/\\-/g'; }
about() {
	awk '/^[A-Z]/ { on = $0 == "DESCRIPTION:"; next }
	on { sub(/^   /, ""); gsub(/-/, "\\-"); sub(/^[.\x27]/, "\\\\\\&&"); print ($0 == "" ? ".PP" : $0) }' | sed '$ { /^\.PP$/d }'
}

"$binary" --help | options "GLOBAL OPTIONS:" >"$work/global"
for verb in $("$binary" --help | sed -n '/^COMMANDS:/,/^$/ s/^   \([a-z]*\)  .*/\1/p'); do
	"$binary" "$verb" --help >"$work/help"
	printf '.SS %s %s\n' "$verb" "$(arguments <"$work/help")"
	if grep -q '^DESCRIPTION:' "$work/help"; then about <"$work/help"; else summary <"$work/help"; fi
	options "OPTIONS:" <"$work/help"
done >"$work/verbs"

mkdir -p "$(dirname "$output")"
version=$("$binary" --version | sed -n '1s/.* //p')
sed -e "s/@VERSION@/$version/" \
	-e "/^@GLOBAL@\$/ { r $work/global
	d }" -e "/^@VERBS@\$/ { r $work/verbs
	d }" "$template" >"$output"
