package arch

import (
	"regexp"
	"strings"
)

// Mention is a command line of the program that a document shows: the words
// after the program's name up to the first that cannot be a command, and the
// long flags of that line.
type Mention struct {
	Line  int
	Words []string
	Flags []string
}

var (
	// shown matches the program at the start of a shell line or of inline code.
	shown       = regexp.MustCompile("(?:^\\s*(?:[$#] )?|`)(?:sudo )?(?:\\./)?(?:bin/)?healthpost((?: [^`\\n]*)?)(?:`|$)")
	commandWord = regexp.MustCompile(`^[a-z][a-z-]*(\|[a-z][a-z-]*)*$`)
	longFlag    = regexp.MustCompile(`^\[?(--[a-z][a-z-]*)`)
)

// Mentions returns the command lines that a Markdown text shows, in code blocks
// and as inline code. Alternatives (create|invite) come as one mention each.
func Mentions(text string) []Mention {
	var all []Mention
	fenced := false
	for n, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		for _, m := range shown.FindAllStringSubmatch(line, -1) {
			if !fenced && !strings.Contains(m[0], "`") {
				continue // prose that starts with the name
			}
			all = append(all, mention(n+1, m[1])...)
		}
	}
	return all
}

func mention(line int, rest string) []Mention {
	rest, _, _ = strings.Cut(rest, " #") // a comment in the shell
	sets := [][]string{nil}
	fields := strings.Fields(rest)
	i := 0
	for ; i < len(fields) && commandWord.MatchString(fields[i]); i++ {
		var next [][]string
		for _, words := range sets {
			for _, alternative := range strings.Split(fields[i], "|") {
				next = append(next, append(words[:len(words):len(words)], alternative))
			}
		}
		sets = next
	}
	var flags []string
	for _, field := range fields[i:] {
		if m := longFlag.FindStringSubmatch(field); m != nil {
			flags = append(flags, m[1])
		}
	}
	var all []Mention
	for _, words := range sets {
		all = append(all, Mention{line, words, flags})
	}
	return all
}

// Unknown checks one mention against the program's own help, which help gives
// for a list of command words, and returns what the program does not know. The
// words after a command that has no commands below it are its arguments.
func Unknown(m Mention, help func(words []string) string) string {
	text := help(nil)
	for i := range m.Words {
		words := m.Words[:i+1]
		if !strings.Contains(text, "Available Commands:") {
			break
		}
		text = help(words)
		if !strings.Contains(text, "healthpost "+strings.Join(words, " ")) {
			return "healthpost " + strings.Join(words, " ")
		}
	}
	for _, flag := range m.Flags {
		if !regexp.MustCompile(regexp.QuoteMeta(flag) + `\b`).MatchString(text) {
			return flag + " of healthpost " + strings.Join(m.Words, " ")
		}
	}
	return ""
}
