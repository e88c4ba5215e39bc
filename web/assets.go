package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets/*
var assetFiles embed.FS

// asset is one embedded file under a name that changes with its content, so browsers may keep it.
type asset struct {
	name, kind string
	raw, gz    []byte
}

type assets struct {
	byName map[string]*asset // "style.css"
	byPath map[string]*asset // "style-1a2b3c4d.css"
}

var assetKinds = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func loadAssets() (*assets, error) {
	files, err := assetFiles.ReadDir("assets")
	if err != nil {
		return nil, fmt.Errorf("listing assets: %w", err)
	}
	all := &assets{byName: make(map[string]*asset), byPath: make(map[string]*asset)}
	for _, f := range files {
		raw, err := assetFiles.ReadFile("assets/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("reading asset: %w", err)
		}
		ext := path.Ext(f.Name())
		kind := assetKinds[ext]
		if kind == "" {
			continue
		}
		sum := sha256.Sum256(raw)
		a := &asset{name: strings.TrimSuffix(f.Name(), ext) + "-" + hex.EncodeToString(sum[:4]) + ext, kind: kind, raw: raw}
		if a.gz, err = compressBest(raw); err != nil {
			return nil, fmt.Errorf("compressing asset: %w", err)
		}
		all.byName[f.Name()] = a
		all.byPath[a.name] = a
	}
	return all, nil
}

func compressBest(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(raw); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// url is the path of an asset by its plain name.
func (a *assets) url(name string) (string, error) {
	if f := a.byName[name]; f != nil {
		return "/assets/" + f.name, nil
	}
	return "", fmt.Errorf("no asset %q", name)
}

// serveAsset answers one of the page's own files.
func serveAsset(q *request) error {
	if !q.assets.serve(q.w, q.r) {
		return ErrNotFound
	}
	return nil
}

// serve answers an asset's path; false when there is none.
func (a *assets) serve(w http.ResponseWriter, r *http.Request) bool {
	f := a.byPath[strings.TrimPrefix(r.URL.Path, "/assets/")]
	if f == nil {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Add("Vary", "Accept-Encoding")
	body := f.raw
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = f.gz
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
	return true
}
