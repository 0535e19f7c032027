(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  const byId = (id) => document.getElementById(id);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  /* Colours: as the system, light, dark. */
  const theme = byId("theme");
  const themes = ["auto", "light", "dark"];
  theme.addEventListener("click", () => {
    const now = root.dataset.theme || "auto";
    const next = themes[(themes.indexOf(now) + 1) % themes.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    byId("theme-name").textContent = next;
    theme.setAttribute("aria-label", `Colours: ${next === "auto" ? "as the system" : next}`);
  });

  /* The section that is being read is marked in the navigation. */
  const links = new Map([...document.querySelectorAll("#links a")].map((link) => [link.hash.slice(1), link]));
  const strip = byId("links");
  const visible = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) visible.add(entry.target.id);
      else visible.delete(entry.target.id);
    }
    const first = [...links.keys()].find((id) => visible.has(id));
    for (const [id, link] of links) {
      if (id === first) {
        link.setAttribute("aria-current", "true");
        strip.scrollLeft = link.offsetLeft - 40;
      } else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-12% 0px -70% 0px" });
  for (const id of links.keys()) watch.observe(byId(id));

  /* Tables sort by a column; a second click turns the order round. */
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      button.addEventListener("click", () => {
        const numbers = button.dataset.kind !== "text";
        const first = numbers ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first
          ? (numbers ? "ascending" : "descending") : first;
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", order);
        const key = (row) => {
          const cell = row.cells[column];
          return (cell.dataset.key ?? cell.textContent).trim().replace("\u2212", "-");
        };
        const number = (text) => text === "inf" ? Infinity : text === "" ? NaN : Number(text.replaceAll(",", ""));
        const sign = order === "ascending" ? 1 : -1;
        const compare = (a, b) => {
          const [x, y] = [key(a), key(b)];
          if (numbers) {
            const [m, n] = [number(x), number(y)];
            if (!Number.isNaN(m) && !Number.isNaN(n)) return m === n ? 0 : sign * (m < n ? -1 : 1);
            if (Number.isNaN(m) !== Number.isNaN(n)) return Number.isNaN(m) ? 1 : -1;
          }
          return sign * x.localeCompare(y, "en", { numeric: true });
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
      });
    });
  }

  /* The viewer. */
  const viewer = byId("viewer");
  if (!viewer) return;
  const PAIRS = [
    ["noisy", "denoised"], ["denoised", "clean"], ["noisy", "clean"], ["classical", "denoised"], ["noisy", "residual"],
  ];
  const MOST = 8;
  const stage = byId("v-stage"), frame = byId("v-frame"), handle = byId("v-handle"), clip = byId("v-clip");
  const under = byId("v-under"), over = byId("v-over");
  const items = [...document.querySelectorAll("[data-item]")];
  const state = { item: 0, pair: 0, split: 50, zoom: 1, x: 0, y: 0, fitted: true, pairs: [], size: [1, 1] };
  let opener = null;
  let before = null;

  const layersOf = (item) => {
    const layers = new Map();
    for (const image of item.querySelectorAll("img[data-layer]")) {
      const { layer, label, score } = image.dataset;
      layers.set(layer, { src: image.src, label, score });
    }
    if (item.dataset.clean) layers.set("clean", { src: item.dataset.clean, label: "clean" });
    if (item.dataset.residual) {
      layers.set("residual", { src: item.dataset.residual, label: "removed", tinted: true });
    }
    return layers;
  };

  const caption = (layer) => {
    const score = layer.score ? (layer.score === "equal" ? " equal" : ` ${layer.score} dB`) : "";
    return layer.label + score;
  };

  const show = (image, layer) => {
    if (image.src !== layer.src) image.src = layer.src;
    image.alt = layer.label;
    image.classList.toggle("tinted", Boolean(layer.tinted));
  };

  const fit = () => {
    const [width, height] = state.size;
    const wanted = Math.min(stage.clientWidth / width, stage.clientHeight / height);
    const pixel = Math.max(window.devicePixelRatio || 1, 2);
    return clamp(Math.floor(wanted * pixel) / pixel, 1, MOST);
  };

  const place = () => {
    const [width, height] = state.size.map((length) => length * state.zoom);
    const inner = [Math.min(width, stage.clientWidth), Math.min(height, stage.clientHeight)];
    state.x = clamp(state.x, inner[0] - width, 0);
    state.y = clamp(state.y, inner[1] - height, 0);
    frame.style.width = `${inner[0]}px`;
    frame.style.height = `${inner[1]}px`;
    for (const image of [under, over]) {
      image.style.width = `${width}px`;
      image.style.height = `${height}px`;
      image.style.transform = `translate(${state.x}px, ${state.y}px)`;
    }
    clip.style.clipPath = `inset(0 ${100 - state.split}% 0 0)`;
    handle.style.left = `${state.split}%`;
    const [left, right] = state.pairs[state.pair];
    const value = Math.round(state.split);
    handle.setAttribute("aria-valuenow", String(value));
    handle.setAttribute("aria-valuetext", `${value} % ${left.label}, the rest ${right.label}`);
    byId("v-left").hidden = state.split < 12;
    byId("v-right").hidden = state.split > 88;
    byId("v-zoom").textContent = `${Math.round(state.zoom * 10) / 10}\u00d7`;
    byId("v-out").disabled = state.zoom <= 1;
    byId("v-in").disabled = state.zoom >= MOST;
    frame.classList.toggle("pans", width > inner[0] + 0.5 || height > inner[1] + 0.5);
  };

  const draw = () => {
    const [left, right] = state.pairs[state.pair];
    show(over, left);
    show(under, right);
    byId("v-left").textContent = caption(left);
    byId("v-right").textContent = caption(right);
    [...byId("v-pairs").children].forEach((button, index) => {
      button.setAttribute("aria-pressed", String(index === state.pair));
    });
    byId("v-flip").setAttribute("aria-pressed", String(before !== null));
    place();
  };

  const choose = (pair) => {
    if (pair < 0 || pair >= state.pairs.length) return;
    state.pair = pair;
    draw();
  };

  const move = (split) => {
    state.split = clamp(split, 0, 100);
    before = null;
    byId("v-flip").setAttribute("aria-pressed", "false");
    place();
  };

  const flip = () => {
    if (before === null) {
      before = state.split;
      state.split = state.split >= 50 ? 0 : 100;
    } else {
      state.split = 100 - state.split;
    }
    draw();
  };

  /* Zoom so that what is at the point (x, y) of the frame stays there, while the frame grows around its centre. */
  const zoom = (value, x = frame.clientWidth / 2, y = frame.clientHeight / 2) => {
    const next = clamp(value, 1, MOST);
    const [width, height] = state.size.map((length) => length * next);
    const right = (Math.min(width, stage.clientWidth) - frame.clientWidth) / 2;
    const down = (Math.min(height, stage.clientHeight) - frame.clientHeight) / 2;
    state.x = x + right - (x - state.x) * next / state.zoom;
    state.y = y + down - (y - state.y) * next / state.zoom;
    state.zoom = next;
    state.fitted = false;
    place();
  };

  const refit = () => {
    state.zoom = fit();
    state.x = state.y = 0;
    state.fitted = true;
    place();
  };

  const load = (index, wanted) => {
    state.item = (index + items.length) % items.length;
    const item = items[state.item];
    const layers = layersOf(item);
    const pairs = PAIRS.filter(([a, b]) => layers.has(a) && layers.has(b));
    const old = wanted || state.names && state.names[state.pair];
    state.names = pairs;
    state.pairs = pairs.map(([a, b]) => [layers.get(a), layers.get(b)]);
    const same = pairs.findIndex(([a, b]) => old && a === old[0] && b === old[1]);
    state.pair = Math.max(same, 0);
    state.size = [Number(item.dataset.width), Number(item.dataset.height)];
    byId("v-name").textContent = item.dataset.name;
    const of = item.dataset.set ? `${item.dataset.set}, ` : "";
    byId("v-count").textContent = `${of}${state.item + 1} of ${items.length}`;
    byId("v-pairs").replaceChildren(...state.pairs.map(([a, b], number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${a.label} | ${b.label}`;
      button.addEventListener("click", () => choose(number));
      return button;
    }));
    if (state.fitted) state.zoom = fit();
    draw();
  };

  const OPENED = { clean: ["denoised", "clean"], classical: ["classical", "denoised"] };
  const open = (button) => {
    const item = button.closest("[data-item]");
    opener = button;
    viewer.showModal();
    Object.assign(state, { split: 50, x: 0, y: 0, fitted: true });
    before = null;
    load(items.indexOf(item), OPENED[button.dataset.open] || ["noisy", "denoised"]);
    handle.focus();
  };
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => open(button));
  }

  const step = (by) => {
    load(state.item + by);
    const item = items[state.item];
    opener = item.matches("[data-open]") ? item : item.querySelector("[data-open]");
  };

  viewer.addEventListener("close", () => {
    if (opener) opener.focus();
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
  byId("v-close").addEventListener("click", () => viewer.close());
  byId("v-in").addEventListener("click", () => zoom(Math.floor(state.zoom + 1)));
  byId("v-out").addEventListener("click", () => zoom(Math.ceil(state.zoom - 1)));
  byId("v-fit").addEventListener("click", refit);
  byId("v-flip").addEventListener("click", flip);
  byId("v-prev").addEventListener("click", () => step(-1));
  byId("v-next").addEventListener("click", () => step(1));
  window.addEventListener("resize", () => {
    if (!viewer.open) return;
    if (state.fitted) refit();
    else place();
  });

  const pan = (x, y) => {
    state.x += x;
    state.y += y;
    place();
  };
  const PANS = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
  const MOVES = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2 };
  const trap = (event) => {
    const stops = [...viewer.querySelectorAll("button:not(:disabled), [tabindex='0']")];
    const at = stops.indexOf(document.activeElement) + (event.shiftKey ? -1 : 1);
    event.preventDefault();
    stops[(at + stops.length) % stops.length].focus();
  };
  viewer.addEventListener("keydown", (event) => {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "Tab") return trap(event);
    if (key in MOVES) {
      if (event.shiftKey) pan(...PANS[key]);
      else move(state.split + MOVES[key]);
    } else if (key === "Home") move(0);
    else if (key === "End") move(100);
    else if (key === "+" || key === "=") zoom(Math.floor(state.zoom + 1));
    else if (key === "-" || key === "_") zoom(Math.ceil(state.zoom - 1));
    else if (key === "0") refit();
    else if (key === "n" || key === "PageDown") step(1);
    else if (key === "p" || key === "PageUp") step(-1);
    else if (key === "f") flip();
    else if (key >= "1" && key <= "5") choose(Number(key) - 1);
    else return;
    event.preventDefault();
  });

  /* One pointer moves the border, or the picture once it is larger than its frame; two pointers zoom. */
  const pointers = new Map();
  let pinch = null;
  const inFrame = (x, y) => {
    const box = frame.getBoundingClientRect();
    return [x - box.left, y - box.top];
  };
  const splitAt = (event) => move(100 * inFrame(event.clientX, 0)[0] / frame.clientWidth);
  const spread = () => {
    const [[ax, ay], [bx, by]] = [...pointers.values()].map((pointer) => pointer.at);
    return { length: Math.hypot(ax - bx, ay - by), x: (ax + bx) / 2, y: (ay + by) / 2 };
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    const slides = handle.contains(event.target) || !frame.classList.contains("pans");
    pointers.set(event.pointerId, { at: [event.clientX, event.clientY], slides });
    handle.focus({ preventScroll: true });
    if (pointers.size === 2) pinch = { ...spread(), zoom: state.zoom };
    else if (slides) splitAt(event);
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    const pointer = pointers.get(event.pointerId);
    if (!pointer) return;
    const [x, y] = [event.clientX, event.clientY];
    const [oldX, oldY] = pointer.at;
    pointer.at = [x, y];
    if (pinch && pointers.size === 2) {
      const now = spread();
      zoom(pinch.zoom * now.length / (pinch.length || 1), ...inFrame(now.x, now.y));
    } else if (pointer.slides) splitAt(event);
    else pan(x - oldX, y - oldY);
  });
  const lift = (event) => {
    pointers.delete(event.pointerId);
    if (pointers.size < 2) pinch = null;
  };
  frame.addEventListener("pointerup", lift);
  frame.addEventListener("pointercancel", lift);
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(state.zoom * Math.exp(-event.deltaY / 300), ...inFrame(event.clientX, event.clientY));
  }, { passive: false });
})();
