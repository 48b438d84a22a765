// Only browsers without modules run this.
document.getElementById("status").textContent = "This browser is too old for the page; use one of 2023 or newer.";
document.getElementById("progress").hidden = true;
