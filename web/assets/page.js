/* What the page gains where script runs: live states, a busy button, kept typing, a breath timer.
   ES5 only, for old phones. Every action works without it. */
(function () {
  'use strict';
  var doc = document, body = doc.body;

  function each(list, run) { for (var i = 0; i < list.length; i++) { run(list[i]); } }
  function one(id) { return doc.getElementById(id); }

  var summary = one('summary');
  if (summary) { summary.focus(); }

  /* A form is sent once: the button says so until the answer comes. */
  var drafting = null;
  function sent(form) {
    each(form.querySelectorAll('button[data-busy]'), function (b) {
      b.setAttribute('data-words', b.textContent);
      b.textContent = b.getAttribute('data-busy');
      setTimeout(function () { b.disabled = true; }, 0);
    });
  }
  doc.addEventListener('submit', function (e) {
    var form = e.target;
    if (form.getAttribute('data-sent')) { e.preventDefault(); return; }
    if (form.method === 'post') { form.setAttribute('data-sent', '1'); }
    if (drafting) { drafting.abort(); drafting = null; }
    clearTimeout(waiting);
    sent(form);
  });
  window.addEventListener('pageshow', function () {
    each(doc.querySelectorAll('form[data-sent]'), function (form) { form.removeAttribute('data-sent'); });
    each(doc.querySelectorAll('button[data-words]'), function (b) {
      b.textContent = b.getAttribute('data-words');
      b.removeAttribute('data-words');
      b.disabled = false;
    });
  });

  /* What is typed is kept on the box after a short rest. */
  var waiting = 0;
  function encode(form) {
    var parts = ['path=' + encodeURIComponent(location.pathname)];
    each(form.elements, function (el) {
      if (!el.name || el.type === 'password' || el.type === 'submit' || el.type === 'file') { return; }
      if ((el.type === 'checkbox' || el.type === 'radio') && !el.checked) { return; }
      parts.push(encodeURIComponent(el.name) + '=' + encodeURIComponent(el.value));
    });
    return parts.join('&');
  }
  each(doc.querySelectorAll('form[data-draft]'), function (form) {
    form.addEventListener('input', function () {
      clearTimeout(waiting);
      waiting = setTimeout(function () {
        if (form.getAttribute('data-sent')) { return; }
        drafting = new XMLHttpRequest();
        drafting.open('POST', '/draft');
        drafting.setRequestHeader('Content-Type', 'application/x-www-form-urlencoded');
        drafting.send(encode(form));
      }, 400);
    });
  });

  /* Sixty seconds for counting breaths. */
  each(doc.querySelectorAll('button[data-timer]'), function (b) {
    var words = b.textContent, left = 0, clock = 0;
    b.parentNode.hidden = false;
    b.addEventListener('click', function () {
      clearInterval(clock);
      left = 60;
      b.textContent = left + ' s';
      clock = setInterval(function () {
        left--;
        b.textContent = left > 0 ? left + ' s' : b.getAttribute('data-timer');
        if (left <= 0) {
          clearInterval(clock);
          if (navigator.vibrate) { navigator.vibrate(400); }
          setTimeout(function () { b.textContent = words; one('breaths').focus(); }, 2000);
        }
      }, 1000);
    });
  });

  /* Paper. */
  each(doc.querySelectorAll('button[data-print]'), function (b) {
    b.parentNode.hidden = false;
    b.addEventListener('click', function () { window.print(); });
  });
  if (doc.querySelector('button[data-print]')) { each(doc.querySelectorAll('.by-hand'), function (p) { p.hidden = true; }); }

  /* Live states: the box says that something changed, the page asks what. */
  function paint(el, kind, words) {
    el.className = el.className.replace(/\b(saved|copied|confirmed|refused)\b/, kind);
    var use = el.querySelector('use'), text = el.querySelector('.shape + span');
    if (use && use.getAttribute('href') !== '#shape-' + kind) { use.setAttribute('href', '#shape-' + kind); }
    if (text && text.textContent !== words) { text.textContent = words; }
  }
  var shown = '';
  function refresh() {
    var badges = doc.querySelectorAll('[data-rid]'), query = ['at=' + encodeURIComponent(location.pathname)];
    each(badges, function (b) { if (query.length < 41) { query.push('rid=' + encodeURIComponent(b.getAttribute('data-rid'))); } });
    var ask = new XMLHttpRequest();
    ask.open('GET', '/states?' + query.join('&'));
    ask.onload = function () {
      if (ask.status !== 200) { return; }
      var now = JSON.parse(ask.responseText);
      paint(one('line'), now.line.kind, now.line.text);
      var banners = one('banners');
      if (banners.getAttribute('data-tag') !== now.tag) { banners.innerHTML = now.banners; banners.setAttribute('data-tag', now.tag); }
      var part = one('now');
      if (part && now.part && now.part !== shown && !part.contains(doc.activeElement)) { part.innerHTML = shown = now.part; }
      each(badges, function (b) {
        var s = now.states[b.getAttribute('data-rid')];
        if (s) { paint(b, s.kind, s.text); }
      });
    };
    ask.send();
  }
  var stream = null;
  function listen() {
    if (stream || doc.hidden || !window.EventSource) { return; }
    stream = new EventSource('/events');
    stream.addEventListener('change', refresh);
    stream.addEventListener('locked', function () { location.href = location.pathname; });
  }
  function hush() { if (stream) { stream.close(); stream = null; } }
  if (body.getAttribute('data-live')) {
    listen();
    doc.addEventListener('visibilitychange', function () {
      if (doc.hidden) { hush(); }
      listen();
    });
    doc.addEventListener('submit', hush); /* a page that is left does not answer to the stream's end */
  }
}());
