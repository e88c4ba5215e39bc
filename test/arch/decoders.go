package arch

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// decoderList says for each function that reads bytes what fuzzes it: a line is
// its folder and name, then a fuzz target, or "own" with a reason for what reads
// only bytes that this box wrote and whose sum was compared, or "by" and the
// listed function that does the reading.
const decoderList = "test/arch/decoders.txt"

// Functions that make something of text or bytes, and of bytes or a stream, are
// called like this.
var (
	textDecoder = regexp.MustCompile(`^(?i:parse|decode|unmarshal|unpack|expand|from[A-Z_])`)
	byteDecoder = regexp.MustCompile(`^(?i:read|open|take|load|cut)(?:[A-Z_]|$)`)
)

// decodeCalls are what reads a general format.
var decodeCalls = map[string][]string{
	"encoding/json":                    {"Unmarshal", "NewDecoder"},
	"encoding/base64":                  {"NewDecoder"},
	"encoding/csv":                     {"NewReader"},
	"encoding/xml":                     {"Unmarshal", "NewDecoder"},
	"encoding/gob":                     {"NewDecoder"},
	"archive/zip":                      {"NewReader", "OpenReader"},
	"archive/tar":                      {"NewReader"},
	"compress/gzip":                    {"NewReader"},
	"mime/multipart":                   {"NewReader"},
	"image":                            {"Decode", "DecodeConfig"},
	"image/jpeg":                       {"Decode"},
	"image/png":                        {"Decode"},
	"net/mail":                         {"ReadMessage"},
	"golang.org/x/net/html":            {"Parse", "NewTokenizer"},
	"github.com/BurntSushi/toml":       {"Unmarshal", "Decode", "DecodeFile", "NewDecoder"},
	"github.com/fxamacker/cbor/v2":     {"Unmarshal", "NewDecoder"},
	"google.golang.org/protobuf/proto": {"Unmarshal"},
}

// Decoders reports functions that make something of bytes, text or a stream and
// that nothing fuzzes, and lines of the list that name what is not there.
func Decoders(t *Tree) []Finding {
	listed, found := t.decoderLines()
	targets := t.fuzzTargets()
	for _, f := range t.Go {
		if f.Test || f.Generated {
			continue
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !f.decodes(t.Module, fn) {
				continue
			}
			name := f.Dir + "." + funcName(fn)
			how, known := listed[name]
			delete(listed, name)
			switch {
			case !known:
				found = append(found, Finding{"decoder", f.Path, f.Line(fn), fmt.Sprintf("%s has no fuzz target (%s)", name, decoderList)})
			case strings.HasPrefix(how, "Fuzz") && !slices.Contains(targets, f.Dir+"."+how):
				found = append(found, Finding{"decoder", f.Path, f.Line(fn), fmt.Sprintf("%s: there is no %s", name, how)})
			}
		}
	}
	for name := range listed {
		found = append(found, Finding{"decoder", decoderList, 0, fmt.Sprintf("%s reads nothing", name)})
	}
	return found
}

// decoderLines reads the list; a tree without one has an empty one.
func (t *Tree) decoderLines() (map[string]string, []Finding) {
	b, err := t.Bytes(decoderList)
	if err != nil {
		return nil, nil
	}
	listed, found := map[string]string{}, []Finding(nil)
	for i, line := range strings.Split(string(b), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, how, _ := strings.Cut(line, " ")
		how = strings.TrimSpace(how)
		word, rest, _ := strings.Cut(how, " ")
		switch {
		case strings.HasPrefix(how, "Fuzz"):
		case word == "own" && rest != "", word == "by" && rest != "":
		default:
			found = append(found, Finding{"decoder", decoderList, i + 1, fmt.Sprintf("%s: neither a target nor a reason", name)})
		}
		listed[name] = how
	}
	return listed, found
}

// fuzzTargets are the folders and names of all fuzz targets.
func (t *Tree) fuzzTargets() []string {
	var list []string
	for _, f := range t.Go {
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.Test && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
				list = append(list, f.Dir+"."+fn.Name.Name)
			}
		}
	}
	return list
}

func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	e := fn.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

// decodes tells whether a function is called like a decoder and takes bytes, text
// or a stream, or calls a decoder of a general format.
func (f *File) decodes(module string, fn *ast.FuncDecl) bool {
	if fn.Body == nil {
		return false
	}
	text, raw := textDecoder.MatchString(fn.Name.Name), byteDecoder.MatchString(fn.Name.Name)
	reader := fn.Name.Name == "Read" || fn.Name.Name == "ReadAt" // fills what it is given
	for _, p := range fn.Type.Params.List {
		if text && (textType(p.Type) || rawType(p.Type)) || raw && !reader && rawType(p.Type) {
			return true
		}
	}
	inside := func(n ast.Node) bool { return fn.Body.Pos() <= n.Pos() && n.Pos() < fn.Body.End() }
	for pkg, names := range decodeCalls {
		if slices.ContainsFunc(f.selectors(pkg, names...), inside) {
			return true
		}
	}
	return slices.ContainsFunc(f.selectors(module+"/record", "Unmarshal"), inside)
}

func textType(e ast.Expr) bool {
	if list, ok := e.(*ast.ArrayType); ok {
		e = list.Elt
	}
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "string"
}

// rawType tells whether a parameter is bytes, or a stream or frame of them.
func rawType(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name == "Frame"
	case *ast.ArrayType:
		id, ok := x.Elt.(*ast.Ident)
		return ok && id.Name == "byte"
	case *ast.SelectorExpr:
		id, ok := x.X.(*ast.Ident)
		return ok && id.Name == "io" && strings.HasPrefix(x.Sel.Name, "Reader")
	case *ast.StarExpr:
		s, ok := x.X.(*ast.SelectorExpr)
		return ok && s.Sel.Name == "Request"
	}
	return false
}
