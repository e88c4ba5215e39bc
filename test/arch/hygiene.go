package arch

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Skips reports tests that can decide not to run: calls of Skip on a test's
// handle, and script lines that skip.
func Skips(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		if !f.Test {
			continue
		}
		handles := testHandles(f.AST)
		ast.Inspect(f.AST, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && handles[x.Name] {
				found = append(found, Finding{"skip", f.Path, f.Line(call), "a test that may not run"})
			}
			return true
		})
	}
	for _, p := range t.Paths {
		if path.Ext(p) == ".txtar" || (path.Ext(p) == ".txt" && strings.Contains(p, "/testdata/script/")) {
			found = append(found, t.scriptSkips(p)...)
		}
	}
	return found
}

// testHandles returns the names that f gives to parameters of a testing type.
func testHandles(file *ast.File) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok {
			return true
		}
		kind := field.Type
		if star, ok := kind.(*ast.StarExpr); ok {
			kind = star.X
		}
		sel, ok := kind.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "testing" || x.Name == "rapid") {
			for _, name := range field.Names {
				names[name.Name] = true
			}
		}
		return true
	})
	return names
}

var scriptSkip = regexp.MustCompile(`^\s*(\[[^\]]*\]\s*)*skip\b`)

func (t *Tree) scriptSkips(p string) []Finding {
	data, err := t.Bytes(p)
	if err != nil {
		return []Finding{{"skip", p, 0, err.Error()}}
	}
	var found []Finding
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, fileBytesMax)
	for n := 1; lines.Scan(); n++ {
		if strings.HasPrefix(lines.Text(), "-- ") {
			break // the files of the archive start here
		}
		if scriptSkip.MatchString(lines.Text()) {
			found = append(found, Finding{"skip", p, n, "a script that may not run"})
		}
	}
	return found
}

// Sleeps reports time.Sleep. In a test it hides a missing signal; in shipped
// code it cannot be ended by a context. Inside synctest.Test time is virtual
// and sleeping is exact, so it is free there.
func Sleeps(t *Tree) []Finding {
	var found []Finding
	for _, f := range t.Go {
		bubbles := f.bubbles()
		for _, call := range f.selectors("time", "Sleep") {
			if !slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() <= call.Pos() && call.End() <= b.End() }) {
				found = append(found, Finding{"sleep", f.Path, f.Line(call), "time.Sleep; wait for the event itself"})
			}
		}
	}
	return found
}

// bubbles returns the function literals that f hands to synctest.Test.
func (f *File) bubbles() []ast.Node {
	var found []ast.Node
	tests := f.selectors("testing/synctest", "Test")
	ast.Inspect(f.AST, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && slices.Contains(tests, ast.Node(call.Fun)) {
			found = append(found, call)
		}
		return true
	})
	return found
}

// allowance is one line of allow.txt.
type allowance struct {
	rule, path string
	most       int
	line       int
}

// parseAllowances reads lines of "rule path count reason"; blank lines and lines
// that start with # are free. The count is the most findings that the line
// excuses.
func parseAllowances(data []byte) ([]allowance, error) {
	var list []allowance
	for n, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 6 {
			return nil, fmt.Errorf("line %d: want rule, path, count and a reason in words", n+1)
		}
		most, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("line %d: count: %w", n+1, err)
		}
		list = append(list, allowance{fields[0], fields[1], most, n + 1})
	}
	return list, nil
}

// excuse takes out the findings that the list allows and adds one for each line
// that excuses nothing.
func excuse(found []Finding, list []allowance) []Finding {
	used := make([]int, len(list))
	var left []Finding
	for _, f := range found {
		i := slices.IndexFunc(list, func(a allowance) bool { return a.rule == f.Rule && a.path == f.Path })
		if i < 0 || used[i] == list[i].most {
			left = append(left, f)
			continue
		}
		used[i]++
	}
	for i, a := range list {
		if used[i] == 0 {
			left = append(left, Finding{"allow", "test/arch/allow.txt", a.line, fmt.Sprintf("excuses nothing: %s %s", a.rule, a.path)})
		}
	}
	return left
}
