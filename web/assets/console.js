/* The console's boxes, kept live. ES5 only; without script a reload shows the same. */
(function () {
  'use strict';
  var place = document.getElementById('boxes');
  if (!window.EventSource) { return; }
  function refresh() {
    var ask = new XMLHttpRequest();
    ask.open('GET', '/boxes');
    ask.onload = function () {
      if (ask.status === 200 && place.innerHTML !== ask.responseText) { place.innerHTML = ask.responseText; }
    };
    ask.send();
  }
  new EventSource('/events').addEventListener('change', refresh);
}());
