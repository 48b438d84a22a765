// Runs only in browsers that do not support modules.
document.getElementById("status").textContent = "This browser is too old for the page; use a browser from 2023 or newer.";
document.getElementById("progress").hidden = true;
