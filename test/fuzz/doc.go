// Package fuzz has what fuzz targets hold besides "no panic": that reading an
// input costs memory in proportion to it, and that a page shows what was typed
// as text and never as markup.
package fuzz
