package rig

import (
	"bytes"
	"context"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
)

// SaveFile posts a visit with a file. The record's id means that the page said it is saved.
func (p *Page) SaveFile(v Visit, name string, content []byte) (rid string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for field, list := range v.Values {
		for _, value := range list {
			if err := w.WriteField(field, value); err != nil {
				return "", err
			}
		}
	}
	f, err := w.CreateFormFile("files", name)
	if err != nil {
		return "", err
	}
	if _, err := f.Write(content); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+p.Box.PageAddress+"/patient/"+v.Patient+"/visit", &b)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	a, err := p.do(req)
	if err != nil {
		return "", err
	}
	_, rid, ok := strings.Cut(a.Location, "?saved=")
	if a.Status != http.StatusSeeOther || !ok || rid == "" {
		return "", fmt.Errorf("saving a visit with a file: status %d to %q: %s", a.Status, a.Location, Words(a.Body))
	}
	return rid, nil
}
