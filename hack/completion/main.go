// Command completion writes the completion scripts for bash, zsh and fish from the
// verb table, into the directory that is its argument: adl-runtime (bash),
// _adl-runtime (zsh) and adl-runtime.fish. Container ids come from `adl-runtime list
// --quiet` when the user presses tab.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/runtime"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: completion DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "completion:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	t := load(runtime.Commands())
	for name, text := range map[string]string{"adl-runtime": t.bash(), "_adl-runtime": t.zsh(), "adl-runtime.fish": t.fish()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// table is the verb table as completion needs it.
type table struct {
	global []option
	verbs  []verb
}

type verb struct {
	name, usage string
	options     []option
	existing    bool // its argument is the id of a container that exists
}

type option struct {
	names []string // without dashes
	usage string
	value bool
}

func load(global []cli.Flag, commands []*cli.Command) table {
	t := table{global: options(global)}
	for _, c := range commands {
		creates := c.Name == "create" || c.Name == "run"
		t.verbs = append(t.verbs, verb{c.Name, oneLine(c.Usage), options(c.Flags), !creates && strings.HasPrefix(c.ArgsUsage, "<container-id>")})
	}
	return t
}

func options(flags []cli.Flag) []option {
	var all []option
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		all = append(all, option{f.Names(), oneLine(d.GetUsage()), d.TakesValue()})
	}
	return append(all, option{names: []string{"help", "h"}, usage: "show help"})
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// spelled returns the option's names as they are typed.
func (o option) spelled() []string {
	var all []string
	for _, n := range o.names {
		if len(n) == 1 {
			all = append(all, "-"+n)
		} else {
			all = append(all, "--"+n)
		}
	}
	return all
}

// words lists the options' names, only those that take a value if valued is set.
func words(options []option, valued bool) []string {
	var all []string
	for _, o := range options {
		if o.value || !valued {
			all = append(all, o.spelled()...)
		}
	}
	return all
}

const header = "# Completion for adl-runtime, made from its verb table by hack/completion.\n"

func (t table) bash() string {
	var b strings.Builder
	b.WriteString(header + `
_adl_runtime() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= root=() i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--root)
			root=(--root "${COMP_WORDS[i+1]}")
			((i++))
			;;
		`)
	b.WriteString(strings.Join(words(t.global, true), "|") + ") ((i++)) ;;\n")
	b.WriteString(`		-*) ;;
		*)
			verb=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	local options= valued= ids=
	case $verb in
`)
	branch := func(pattern string, o []option, ids bool) {
		fmt.Fprintf(&b, "\t%s)\n\t\toptions=%q\n\t\tvalued=%q\n", pattern, strings.Join(words(o, false), " "), strings.Join(words(o, true), " "))
		if ids {
			b.WriteString("\t\tids=1\n")
		}
		b.WriteString("\t\t;;\n")
	}
	branch(`""`, t.global, false)
	for _, v := range t.verbs {
		branch(v.name, v.options, v.existing)
	}
	var names []string
	for _, v := range t.verbs {
		names = append(names, v.name)
	}
	fmt.Fprintf(&b, `	esac
	COMPREPLY=()
	if [[ " $valued " == *" $prev "* ]]; then
		return # bash completes file names
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	elif [[ -z $verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W %q -- "$cur")
	elif [[ -n $ids ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(adl-runtime "${root[@]}" list --quiet 2>/dev/null)" -- "$cur")
	fi
}
complete -o bashdefault -o default -F _adl_runtime adl-runtime
`, strings.Join(names, " "))
	return b.String()
}

func (t table) zsh() string {
	var b strings.Builder
	b.WriteString("#compdef adl-runtime\n" + header + `
_adl_runtime_ids() {
	local -a root ids
	[[ -n ${opt_args[--root]} ]] && root=(--root ${opt_args[--root]})
	ids=(${(f)"$(adl-runtime $root list --quiet 2>/dev/null)"})
	compadd -a ids
}

_adl_runtime() {
	local context state state_descr line
	local -A opt_args
	_arguments -C \
`)
	zshOptions(&b, "\t\t", t.global)
	b.WriteString("\t\t'1:verb:->verb' '*::argument:->rest'\n\tcase $state in\n\tverb)\n\t\tlocal -a verbs=(\n")
	for _, v := range t.verbs {
		fmt.Fprintf(&b, "\t\t\t%s\n", quote(v.name+":"+strings.ReplaceAll(v.usage, ":", `\:`)))
	}
	b.WriteString("\t\t)\n\t\t_describe verb verbs\n\t\t;;\n\trest)\n\t\tcase $line[1] in\n")
	for _, v := range t.verbs {
		fmt.Fprintf(&b, "\t\t%s)\n\t\t\t_arguments \\\n", v.name)
		zshOptions(&b, "\t\t\t\t", v.options)
		if v.existing {
			b.WriteString("\t\t\t\t'1:container:_adl_runtime_ids' '*:argument:_files'\n\t\t\t;;\n")
		} else {
			b.WriteString("\t\t\t\t'*:argument:_files'\n\t\t\t;;\n")
		}
	}
	b.WriteString("\t\tesac\n\t\t;;\n\tesac\n}\n\n_adl_runtime \"$@\"\n")
	return b.String()
}

func zshOptions(b *strings.Builder, indent string, options []option) {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`)
	for _, o := range options {
		value := ""
		if o.value {
			value = ":value:_files"
		}
		for _, name := range o.spelled() {
			fmt.Fprintf(b, "%s%s \\\n", indent, quote(name+"["+escape.Replace(o.usage)+"]"+value))
		}
	}
}

func (t table) fish() string {
	var b strings.Builder
	b.WriteString(header + `
function __adl_runtime_ids
	adl-runtime list --quiet 2>/dev/null
end

`)
	var names []string
	for _, v := range t.verbs {
		names = append(names, v.name)
	}
	noVerb := quote("not __fish_seen_subcommand_from " + strings.Join(names, " "))
	fishOptions(&b, noVerb, t.global)
	for _, v := range t.verbs {
		fmt.Fprintf(&b, "complete -c adl-runtime -f -n %s -a %s -d %s\n", noVerb, v.name, quote(v.usage))
	}
	for _, v := range t.verbs {
		seen := quote("__fish_seen_subcommand_from " + v.name)
		if v.existing {
			fmt.Fprintf(&b, "complete -c adl-runtime -f -n %s -a '(__adl_runtime_ids)'\n", seen)
		}
		fishOptions(&b, seen, v.options)
	}
	return b.String()
}

func fishOptions(b *strings.Builder, condition string, options []option) {
	for _, o := range options {
		fmt.Fprintf(b, "complete -c adl-runtime -n %s", condition)
		for _, n := range o.names {
			if len(n) == 1 {
				fmt.Fprintf(b, " -s %s", n)
			} else {
				fmt.Fprintf(b, " -l %s", n)
			}
		}
		if o.value {
			b.WriteString(" -r")
		}
		fmt.Fprintf(b, " -d %s\n", quote(o.usage))
	}
}

// quote is s as one word of bash, zsh and fish.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
