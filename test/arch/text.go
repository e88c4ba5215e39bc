package arch

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// foreignWords would tell of the machine something was written on, or of where
// its parts were fetched. They are put together here so that this file does not
// hold them.
var foreignWords = []string{
	"/wo" + "rk/", "/tm" + "p/hp",
	"proxy.golang" + ".org", "sum.golang" + ".org", "registry.npmjs" + ".org", "deb.debian" + ".org",
}

// Words reports foreign words, and files too large for a source tree.
func Words(t *Tree) []Finding {
	var found []Finding
	for _, p := range t.Paths {
		info, err := fs.Stat(t.fsys, p)
		if err != nil {
			found = append(found, Finding{"words", p, 0, err.Error()})
			continue
		}
		if info.Size() > fileBytesMax {
			found = append(found, Finding{"words", p, 0, fmt.Sprintf("%d bytes, at most %d", info.Size(), fileBytesMax)})
			continue
		}
		data, err := t.Bytes(p)
		if err != nil {
			found = append(found, Finding{"words", p, 0, err.Error()})
			continue
		}
		for _, word := range foreignWords {
			if i := bytes.Index(data, []byte(word)); i >= 0 {
				found = append(found, Finding{"words", p, lineAt(data, i), "names " + word})
			}
		}
	}
	return found
}

func lineAt(data []byte, i int) int { return bytes.Count(data[:i], []byte("\n")) + 1 }

var (
	documentName = regexp.MustCompile(`\b[A-Za-z0-9_./-]*[A-Z][A-Z_]+\.md\b`)
	markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
)

// Links reports documents that are named in code or prose but are not in the
// tree, and relative links that lead nowhere.
func Links(t *Tree) []Finding {
	var found []Finding
	known := map[string]bool{"SOURCES.md": true, "ORIGIN.md": true} // kinds of file, see Assets
	for _, p := range t.Paths {
		known[path.Base(p)] = true
	}
	for _, p := range t.Paths {
		switch path.Ext(p) {
		case ".go", ".md", ".toml", ".sh", ".service":
		default:
			continue
		}
		data, err := t.Bytes(p)
		if err != nil {
			found = append(found, Finding{"links", p, 0, err.Error()})
			continue
		}
		for _, at := range documentName.FindAllIndex(data, -1) {
			if name := string(data[at[0]:at[1]]); !strings.HasPrefix(p, "test/arch/") && !known[path.Base(name)] {
				found = append(found, Finding{"links", p, lineAt(data, at[0]), "names " + name + ", which is not in the tree"})
			}
		}
		if path.Ext(p) == ".md" {
			found = append(found, t.deadLinks(p, data)...)
		}
	}
	return found
}

func (t *Tree) deadLinks(p string, data []byte) []Finding {
	var found []Finding
	for _, at := range markdownLink.FindAllSubmatchIndex(data, -1) {
		target := string(data[at[2]:at[3]])
		if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
			continue
		}
		target = strings.TrimSuffix(path.Join(path.Dir(p), target), "/")
		if _, err := fs.Stat(t.fsys, target); err != nil {
			found = append(found, Finding{"links", p, lineAt(data, at[0]), "links to " + target + ", which is not there"})
		}
	}
	return found
}

// foreignKinds are the endings of files that nobody writes by hand.
var foreignKinds = []string{".min.js", ".min.css", ".woff", ".woff2", ".ttf", ".otf", ".wasm", ".jar"}

// foreignFolders hold nothing but what came from elsewhere.
var foreignFolders = []string{"vendor", "vendored", "third_party"}

// Assets reports files from elsewhere whose folder does not tell where each
// came from, in which version and under which licence. It tells so in a file
// SOURCES.md, ORIGIN.md or README.md that names the file.
func Assets(t *Tree) []Finding {
	var found []Finding
	for _, p := range t.Paths {
		if foreign(p) && !t.explained(p) {
			found = append(found, Finding{"assets", p, 0, "no source, version and licence beside it"})
		}
	}
	return found
}

func foreign(p string) bool {
	switch path.Base(p) {
	case "SOURCES.md", "ORIGIN.md", "README.md", "LICENSE", "LICENSE.txt", "OFL.txt":
		return false
	}
	for _, end := range foreignKinds {
		if strings.HasSuffix(p, end) {
			return true
		}
	}
	for _, dir := range strings.Split(path.Dir(p), "/") {
		for _, f := range foreignFolders {
			if dir == f {
				return true
			}
		}
	}
	return false
}

func (t *Tree) explained(p string) bool {
	for _, note := range []string{"SOURCES.md", "ORIGIN.md", "README.md"} {
		data, err := t.Bytes(path.Join(path.Dir(p), note))
		if err != nil {
			continue
		}
		text := strings.ToLower(string(data))
		if strings.Contains(text, strings.ToLower(path.Base(p))) && strings.Contains(text, "source") &&
			strings.Contains(text, "version") && (strings.Contains(text, "licence") || strings.Contains(text, "license")) {
			return true
		}
	}
	return false
}

var (
	makeShown  = regexp.MustCompile("(?m)(?:^\\s*(?:\\$ )?|`)make ([a-z][a-z-]*)")
	makeTarget = regexp.MustCompile(`(?m)^([a-z][a-z-]*):(?:[^=]|$)`)
)

// MakeTargets reports documents that show a target which the Makefile lacks.
// Indented lines and inline code count as shown.
func MakeTargets(t *Tree) []Finding {
	makefile, err := t.Bytes("Makefile")
	if err != nil {
		return []Finding{{"make", "Makefile", 0, err.Error()}}
	}
	targets := map[string]bool{}
	for _, m := range makeTarget.FindAllSubmatch(makefile, -1) {
		targets[string(m[1])] = true
	}
	var found []Finding
	for _, p := range t.Paths {
		if path.Ext(p) != ".md" {
			continue
		}
		data, err := t.Bytes(p)
		if err != nil {
			found = append(found, Finding{"make", p, 0, err.Error()})
			continue
		}
		for _, at := range makeShown.FindAllSubmatchIndex(data, -1) {
			name := string(data[at[2]:at[3]])
			inCode := data[at[0]] == '`' || data[at[0]] == ' ' || bytes.Count(data[:at[0]], []byte("```"))%2 == 1
			if inCode && !targets[name] {
				found = append(found, Finding{"make", p, lineAt(data, at[2]), "make " + name + " is no target"})
			}
		}
	}
	return found
}
